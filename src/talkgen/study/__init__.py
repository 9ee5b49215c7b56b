"""User studies: a page that shows results side by side, and what the answers say."""
