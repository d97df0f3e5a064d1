"""Files in a bucket of any S3-compatible store.

`signing` signs requests (AWS Signature Version 4), `bucket` makes them, with retries
and time limits, `answers` reads what comes back, and `store` is what the rest of
`media` sees. Files go there as they arrive, large ones in parts, and come from there
as they are read: nothing is kept on the disk.

The signature is sixty lines of HMAC; a library for it brings every service of Amazon
along, or a second HTTP client. botocore's own signer is the oracle in the tests.
"""
