"""End-to-end encryption: what the server distributes, without being able to read it.

Tables: device_keys, one_time_keys, fallback_keys, cross_signing_keys, key_signatures,
to_device, to_device_seen, remote_device_lists, remote_devices, key_backups,
key_backup_sessions, dehydrated_devices; `device_lists`, `devices` are of `accounts`.
Positions: DEVICE_KEYS (one-time and fallback keys), DEVICE_LIST (devices, identity and
cross-signing keys, names), TO_DEVICE.

Everything but key backups is written by the committer, so writers of one matter never
meet: keys are claimed once, and what other servers are told is stored with the change.

- `client_api`: `keys`, `cross_signing`, `to_device`, `backup`; `server_api` and `edus`
  are the other servers' side.
- `query` and `claim` answer for users here and elsewhere; `following` keeps the lists
  of other servers' users, `sharing` tells whose lists a user has to know.
- `key_counts` and `inbox` are what every sync shows; while nothing moves, memory does.

Spec: client-server-api#end-to-end-encryption
"""
