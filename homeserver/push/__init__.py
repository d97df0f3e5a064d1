"""Push: which events a user is told of, how many are unread, and where they are sent.

Tables: push_rules, push_pages, push_tallies; pushers, push_mails, vapid_key.
Positions: ACCOUNT_DATA, one for each change of somebody's rules; PUSHERS.

`rules` holds rulesets and what users change of them, `evaluation` decides what rules
say of an event; both are pure. What an event means to members with default rules is the
same for all: its digest (`digests`), kept in pages of many. `counts` makes unread
counts out of the user's receipts, the digests after them, and, for those with rules of
their own, the events themselves. Nothing is written when an event is sent, and nothing
for each member: a count is a function of the events, the rules at their time and the
receipts, made when somebody asks and kept in memory for the next time.

Where users are told, `pushers` says: at a gateway, by Web Push without one (`vapid`,
`web_push`), or by e-mail (`mails`, `mailer`). `news` finds what there is to tell,
`sender` tells it.
"""
