"""Messages to people outside of Matrix: e-mails, and text messages to phones.

Tables: outbox.

Laws. A message is written in the transaction of what it is about, and sent afterwards
by whichever process takes it first; it is deleted once the next server has taken it.
One that cannot be delivered is tried again for a day, and dropped when it is refused
for good. So nobody learns from the time an answer takes whether there was one to send.

- `messages` words them, in English and German, as text and HTML;
- `store` is the table; `postman` takes from it and sends, with `smtp` and `gateway`.
"""
