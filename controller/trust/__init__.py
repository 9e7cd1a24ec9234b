"""Trust: who can make a device run something (`docs/explanation/trust.md`).

images      what a model version is: the TUF repository, its roles, releases, publication
director    which device runs it: one signed assignment for each
signer      the process that holds the online keys, its verbs and its journal
custody     where keys lie and how they are opened, made and replaced
ceremonies  roots and delegations, changed by people or by a single operator
identity    who a device is: enrolment, certificates, sessions, signed reports
lineage     how an artifact came to be
"""
