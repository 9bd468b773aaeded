"Whom to scrape next."
