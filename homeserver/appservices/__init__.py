"""Application services: bridges and bots that act for many users.

What this server knows of them, and how it speaks to them. A registration file is read
when the process starts and when it changes; the table holds what all processes go by.
How services are told of events is in `homeserver/bridging`, which stands further down.

Tables: appservices, appservice_rooms. Positions: APPSERVICES, one for each change of a
registration.

Spec: application-service-api
"""
