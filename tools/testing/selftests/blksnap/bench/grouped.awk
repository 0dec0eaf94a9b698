# SPDX-License-Identifier: GPL-2.0
#
# What the tables have in common

# A number in groups of three digits.
function grouped(value,    text, sign, end)
{
	sign = value < 0 ? "-" : ""
	text = sprintf("%.0f", value < 0 ? -value : value)
	end = ""
	while (length(text) > 3) {
		end = "," substr(text, length(text) - 2) end
		text = substr(text, 1, length(text) - 3)
	}
	return sign text end
}
