-- An empty result is most often a training_end_date before the data's first
-- day, or a min_interactions that nobody reaches.
select count(*) as row_count
from {{ ref('filtered_dataframe') }}
having count(*) = 0
