{{ config(materialized=made_once()) }}

{{ kept_lines(
    ref('purchase_lines'), ref('histories'), user='household_id',
    order=['transaction_timestamp', 'household_id', 'product_id', 'basket_id']
) }}
