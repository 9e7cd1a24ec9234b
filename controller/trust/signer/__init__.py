"""The signer: the one process that holds the online keys, behind a few narrow verbs.

Whoever takes over the API, the broker or the database can ask for signatures only through these verbs, and each verb
refuses what the signer itself can see to be wrong: a version that was used, a target that nobody has signed, an
assignment that nobody has approved.
"""
