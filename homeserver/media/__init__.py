"""Files: uploads, downloads, thumbnails, and copies of other servers' files.

A file is kept once for each content, under data_dir/media by its SHA-256 (`disk`), and
counted in `media_files`; what an mxc URI stands for is a row in `media`. A file is
written beside its place and put there only when it is whole and on the disk, in the
transaction that names it; what a crash leaves behind is swept up (`tasks`). Nothing is
ever held in memory as a whole.

`remote` fetches other servers' files, once however many ask; who asks first reads what
has arrived while the rest arrives. `thumbnails` are made by processes of their own
(`workers`, `thumbnailer`), which a hostile image can take down without harm.

Tables: `media_files`, `media`, `media_thumbnails`, `media_blocked`, `media_references`.
"""
