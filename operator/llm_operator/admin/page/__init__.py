"""The page: backends for people, in a browser, on the app that serves the API.

    browser -> guard -> sign-in, or NiceGUI: a view -> admin's services
               guard    who has a session, from which site; Content-Security-Policy
               views    listing, detail, edit, history, compare, trying, routers
               pure     words, form, items, chart, rows: what is said, asked and drawn

It calls Backends, Traffic, Fleet and Trial in process and never writes anything by another way, so
a person may do here what their token may do by the API. NiceGUI is imported when the page is
mounted, and nowhere else.
"""
