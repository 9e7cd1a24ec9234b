"""Keys and what is signed with them: the image repository, assignments, sessions, enrolment."""
