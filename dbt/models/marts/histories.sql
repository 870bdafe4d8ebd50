{{ config(materialized=narrow_table()) }}

{{ histories(ref('purchase_lines'), user='customer_no', time='t_dat') }}
