"""What users report: events, rooms, other users. Kept for whoever runs the server.

Whether a room or a user exists is nothing that an answer tells.

Table: reports.
"""
