{{ config(materialized=made_once()) }}

{{ kept_lines(
    ref('purchase_lines'), ref('histories'), user='customer_no',
    order=['t_dat', 'customer_no', 'article_id', 'sales_channel_id', 'price']
) }}
