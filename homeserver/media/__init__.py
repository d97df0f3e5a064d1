"""Files: uploads, downloads, thumbnails, and copies of other servers' files.

A file is kept once for each content, and counted in `media_files`, with the place where
it is: on the disk under data_dir/media (`disk`), or in a bucket (`s3`); both are a
`Store` (`places`), and `files` knows which there are. What an mxc URI stands for is a
row in `media`. A file is put in its place whole, and then named by a row; what a crash
leaves behind is swept up (`tasks`). `moving` takes all files from one store to the
other while they are read. Nothing is ever held in memory as a whole.

`remote` fetches other servers' files, once however many ask; who asks first reads what
has arrived while the rest arrives. `thumbnails` are made by processes of their own
(`workers`, `thumbnailer`), which a hostile image can take down without harm.

Tables: `media_files`, `media`, `media_thumbnails`, `media_blocked`, `media_references`.
"""
