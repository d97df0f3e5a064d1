"""Wake-ups between the processes of one server, by PostgreSQL or by NATS.

`WakeUps` is what the rest knows of them: subjects, and short payloads that reach every
process that listens, best effort. Nothing depends on their arrival: who listens is told
with None when some may have been missed, and looks at the database now and then anyway.
`nats` is loaded only where the configuration asks for it.
"""
