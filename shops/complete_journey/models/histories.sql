{{ config(materialized=narrow_table()) }}

{{ histories(
    ref('purchase_lines'), user='household_id', time='transaction_timestamp'
) }}
