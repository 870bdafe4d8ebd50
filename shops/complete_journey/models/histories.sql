{{ config(materialized=made_once()) }}

{{ histories(
    ref('purchase_lines'), user='household_id', time='transaction_timestamp'
) }}
