select
    t_dat,
    customer_id,
    article_id,
    price,
    sales_channel_id,
    count(*) as quantity
from {{ ref('transactions_staging') }}
group by t_dat, customer_id, article_id, price, sales_channel_id
