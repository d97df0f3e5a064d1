"""Endpoints for clients: uploads, downloads, thumbnails, previews of links."""
