"""A speech server: OpenAI's API over the models of this package (extra ``server``)."""
