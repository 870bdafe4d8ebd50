select
    customer_id,
    coalesce("Active", 0.0) as active,
    coalesce("FN", 0.0) as fn,
    age,
    club_member_status,
    fashion_news_frequency,
    postal_code
from {{ source('raw', 'customers') }}
