{{ config(materialized=made_once()) }}

{{ histories(ref('purchase_lines'), user='customer_no', time='t_dat') }}
