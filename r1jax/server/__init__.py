"""A loaded model behind the HTTP interface of OpenAI's API: `r1jax serve`.

    request -> asked (what it says) -> app (limits, replies) -> engine (one thread, one running batch) -> choices -> replies
"""
