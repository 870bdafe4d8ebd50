"""The name of a database's table as a URI: is it one, may it be kept, and how is it shown without a secret?"""

import re

SCHEMES = ("postgresql", "snowflake", "bigquery")
# Options that hold no secret. All others come from the environment, as for dbt: a run keeps its parameters for good.
OPTIONS = {
    "sslmode",
    "sslrootcert",
    "connect_timeout",
    "application_name",
    "target_session_attrs",
    "adbc.snowflake.sql.schema",
    "adbc.snowflake.sql.region",
    "adbc.snowflake.sql.uri.host",
    "adbc.snowflake.sql.uri.port",
    "adbc.snowflake.sql.uri.protocol",
    "adbc.snowflake.sql.client_option.login_timeout",
    "adbc.snowflake.sql.client_option.request_timeout",
}
# scheme://host:port/database#schema.table; what is neither a user nor an option
PLAIN = re.compile(r"([a-zA-Z][\w+.-]*://)(?:[^@/?#:]*@)?([\w.-]*(?::\d*)?(?:/[\w.-]*)*)(?:\?[^@#]*)?(#[\w.]*)?")


def is_uri(dataset: object) -> bool:
    """Whether the data set is named as a table of a database, not as a path."""
    return "://" in str(dataset) or re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:/", str(dataset)) is not None


def shown(dataset: object) -> str:
    """The data set's name for messages: a path as it is, a URI without its user and its options."""
    text = str(dataset)
    if not is_uri(text):
        return text
    plain = PLAIN.fullmatch(text)
    if plain is None:  # whatever is between these, it may be a secret
        return text.partition(":")[0] + "://..."
    scheme, place, table = plain.groups()
    return scheme + place + (table or "")


def fault(uri: str) -> str | None:
    """Why the URI names no table, or must not be kept, in a sentence; None when all is well."""
    scheme, _, rest = uri.partition("://")
    place, _, table = rest.rpartition("#")
    place, _, options = place.partition("?")
    names = [option.partition("=")[0] for option in options.split("&") if option]
    secret = "@" in rest and ":" in rest.rpartition("@")[0]
    unknown = [name for name in names if name not in OPTIONS]
    if secret or unknown or "@" in options or "@" in table:
        return (
            f"the data set's URI {shown(uri)} holds a password or an option that may be a secret, and a run keeps its"
            " parameters for good: give it in the environment (PGPASSWORD, SNOWFLAKE_PASSWORD and so on), and change"
            " it if others may have seen it. Options that may stand in the URI:"
            f" {', '.join(sorted(OPTIONS))}."
        )
    if scheme not in SCHEMES:
        return f"the data set {shown(uri)} is of no known database: it must begin with {', '.join(SCHEMES)}."
    if not re.fullmatch(r"\w+(\.\w+)*", table):
        return f"the data set {shown(uri)} names no table: end it with #schema.table, such as #hm.filtered_dataframe."
    return None
