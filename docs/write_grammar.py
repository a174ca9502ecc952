"""Write the parse tables of the grammar; `make grammar` runs it after a change of the grammar."""

from aqpolicy.shipped import grammar_text, shipped_folder
from aqpolicy.syntax.tables import parse_tables
from aqpolicy.trust import replace_file

replace_file(shipped_folder("grammar") / "parse_tables.json", parse_tables(grammar_text()).encode())
