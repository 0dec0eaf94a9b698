/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The status in the text format of Prometheus
 */
#ifndef PROMETHEUS_H
#define PROMETHEUS_H

#include <json.h>

void prometheus_print(struct json_object *status);

#endif /* PROMETHEUS_H */
