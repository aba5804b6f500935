"""What keeps a slow or broken upstream from taking the site down."""
