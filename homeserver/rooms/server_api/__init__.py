"""What other servers ask about rooms.

| file | what it answers |
| --- | --- |
| `admission` | whether the asking server may ask at all |
| `membership` | joins, leaves and knocks through this server |
| `invites` | invites of our users by other servers |
| `history` | events, states, auth chains, history, to servers in the room |

Spec: server-server-api
"""
