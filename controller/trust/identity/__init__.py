"""Who a device is: enrolment, certificates, sessions, signed reports."""
