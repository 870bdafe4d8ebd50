-- Two rows of one line would be two units counted as two purchases.
select
    customer_id,
    article_id,
    t_dat,
    price,
    sales_channel_id
from {{ ref('filtered_dataframe') }}
group by customer_id, article_id, t_dat, price, sales_channel_id
having count(*) > 1
