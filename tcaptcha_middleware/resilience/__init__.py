"""What keeps a slow client, or a slow or broken upstream, from taking the site down."""
