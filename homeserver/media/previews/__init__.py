"""Previews of links: what a page says of itself, and one image of it.

Off unless the configuration says otherwise, for who asks makes this server call where
strangers' links lead. Only the public internet is reached (`federation/wire/web`).

Table: `url_previews`.
"""
