select
    cast(t_dat as timestamp) as t_dat,
    customer_id,
    cast(article_id as bigint) as article_id,
    price,
    sales_channel_id
from {{ source('raw', 'transactions_train') }}
