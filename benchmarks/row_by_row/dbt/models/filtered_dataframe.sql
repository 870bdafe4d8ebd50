{{ config(
    materialized='external',
    location=var('data_dir') ~ '/filtered_dataframe.parquet'
) }}

select joined_dataframe.*
from {{ ref('joined_dataframe') }} as joined_dataframe
where joined_dataframe.customer_id in (
    select frequent.customer_id
    from {{ ref('joined_dataframe') }} as frequent
    where frequent.t_dat < timestamp '{{ var("training_end_date") }}'
    group by frequent.customer_id
    having count(*) >= {{ var('min_interactions') }}
)
