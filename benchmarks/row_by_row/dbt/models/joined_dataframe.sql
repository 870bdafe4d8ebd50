select
    articles_staging.*,
    customers_staging.active,
    customers_staging.fn,
    customers_staging.age,
    customers_staging.club_member_status,
    customers_staging.customer_id,
    customers_staging.fashion_news_frequency,
    customers_staging.postal_code,
    purchase_lines.price,
    purchase_lines.sales_channel_id,
    purchase_lines.t_dat,
    purchase_lines.quantity
from {{ ref('purchase_lines') }} as purchase_lines
inner join {{ ref('articles_staging') }} as articles_staging
    on purchase_lines.article_id = articles_staging.article_id
inner join {{ ref('customers_staging') }} as customers_staging
    on purchase_lines.customer_id = customers_staging.customer_id
