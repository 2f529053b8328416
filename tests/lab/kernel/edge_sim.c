// SPDX-License-Identifier: GPL-2.0
/*
 * edge_sim: what QEMU's virt board lacks of a single-board computer.
 *
 *  - thermal zones named by the parameter zones; their readings are the writable
 *    parameter temp_mc (millidegrees, one per zone)
 *  - a cpufreq driver: table khz, one policy per `cluster` processors. Switching only records
 *    the choice. The writable parameter cap_khz throttles, in one of two ways:
 *      cap_by_kernel=0  as a Raspberry Pi's firmware does: the kernel goes on asking for its
 *                       frequency, only the real one (cpuinfo_cur_freq) is lower
 *      cap_by_kernel=1  as a cooling device does: scaling_max_freq falls, and the device
 *                       "cpufreq-cpu0" in /sys/class/thermal shows a state above 0
 *  - where firmware=1: /sys/devices/platform/soc/soc:firmware/get_throttled with the writable
 *    parameter throttled, and /dev/vcio, which answers what vcgencmd asks a Raspberry Pi's
 *    firmware: measure_clock arm, measure_temp, get_throttled, and pmic_read_adc with the
 *    writable parameter pmic
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/pm_qos.h>
#include <linux/thermal.h>
#include <linux/cpufreq.h>
#include <linux/uaccess.h>

#define MOST 8
#define STEPS 32

static char *zones[MOST] = { "cpu-thermal" };
static int zone_count = 1;
module_param_array(zones, charp, &zone_count, 0444);
static int temp_mc[MOST] = { [0 ... MOST - 1] = 45000 };
static int temp_count = MOST;
module_param_array(temp_mc, int, &temp_count, 0644);
static int crit_mc = 110000;
module_param(crit_mc, int, 0444);
static unsigned int khz[STEPS] = { 600000, 1000000, 1500000, 1800000 };
static int khz_count = 4;
module_param_array(khz, uint, &khz_count, 0444);
static unsigned int cluster = NR_CPUS;
module_param(cluster, uint, 0444);
static bool cap_by_kernel;
module_param(cap_by_kernel, bool, 0444);
static bool firmware;
module_param(firmware, bool, 0444);
static unsigned int throttled;
module_param(throttled, uint, 0644);
static uint clock_index = 48;
module_param(clock_index, uint, 0444);
static char pmic[2048];
module_param_string(pmic, pmic, sizeof(pmic), 0644);

static struct thermal_zone_device *tz[MOST];
static struct thermal_cooling_device *cooler;
static struct cpufreq_frequency_table table[STEPS + 1];
static unsigned int chosen[NR_CPUS];
static struct freq_qos_request limit[NR_CPUS];
static bool have_cpufreq, limited;
static unsigned int cap_khz;

static void cap_apply(void)
{
	unsigned int cpu;

	for (cpu = 0; limited && cpu < nr_cpu_ids; cpu++)
		if (freq_qos_request_active(&limit[cpu]))
			freq_qos_update_request(&limit[cpu], cap_khz ? cap_khz : khz[khz_count - 1]);
}
static int cap_set(const char *text, const struct kernel_param *kp)
{
	int rc = kstrtouint(text, 0, &cap_khz);

	if (!rc)
		cap_apply();
	return rc;
}
static int cap_get(char *text, const struct kernel_param *kp)
{
	return sysfs_emit(text, "%u\n", cap_khz);
}
static const struct kernel_param_ops cap_ops = { .set = cap_set, .get = cap_get };
module_param_cb(cap_khz, &cap_ops, NULL, 0644);

static int sim_get_temp(struct thermal_zone_device *z, int *t)
{
	*t = temp_mc[(long)z->devdata];
	return 0;
}
static int sim_trip_type(struct thermal_zone_device *z, int n, enum thermal_trip_type *t)
{
	*t = THERMAL_TRIP_HOT;	/* HOT, not CRITICAL: a test must not power the guest off */
	return 0;
}
static int sim_trip_temp(struct thermal_zone_device *z, int n, int *t)
{
	*t = crit_mc;
	return 0;
}
static struct thermal_zone_device_ops tz_ops = {
	.get_temp = sim_get_temp,
	.get_trip_type = sim_trip_type,
	.get_trip_temp = sim_trip_temp,
};

/* The state of a cooling device: how many of the fastest steps are out of reach. */
static int cool_max(struct thermal_cooling_device *c, unsigned long *state)
{
	*state = khz_count - 1;
	return 0;
}
static int cool_get(struct thermal_cooling_device *c, unsigned long *state)
{
	int i;

	*state = 0;
	for (i = 0; cap_khz && i < khz_count; i++)
		*state += khz[i] > cap_khz;
	return 0;
}
static int cool_set(struct thermal_cooling_device *c, unsigned long state)
{
	if (state >= khz_count)
		return -EINVAL;
	cap_khz = state ? khz[khz_count - 1 - state] : 0;
	cap_apply();
	return 0;
}
static const struct thermal_cooling_device_ops cool_ops = {
	.get_max_state = cool_max,
	.get_cur_state = cool_get,
	.set_cur_state = cool_set,
};

static unsigned int sim_get(unsigned int cpu)
{
	unsigned int now = chosen[cpu - cpu % cluster];

	return cap_khz && cap_khz < now ? cap_khz : now;
}
static int sim_target(struct cpufreq_policy *p, unsigned int i)
{
	chosen[p->cpu - p->cpu % cluster] = table[i].frequency;
	return 0;
}
static int sim_cpu_init(struct cpufreq_policy *p)
{
	unsigned int cpu, first = p->cpu - p->cpu % cluster;

	for_each_possible_cpu(cpu)
		if (cpu - cpu % cluster == first)
			cpumask_set_cpu(cpu, p->cpus);
	p->freq_table = table;
	p->cpuinfo.transition_latency = 300000;
	p->cur = chosen[first];
	return 0;
}
static int sim_cpu_exit(struct cpufreq_policy *p)
{
	return 0;
}
static struct cpufreq_driver drv = {
	.name = "edge-sim",
	.flags = CPUFREQ_NEED_INITIAL_FREQ_CHECK,
	.init = sim_cpu_init,
	.exit = sim_cpu_exit,
	.verify = cpufreq_generic_frequency_table_verify,
	.target_index = sim_target,
	.get = sim_get,
	.attr = cpufreq_generic_attr,
};

static void sim_limit(void)
{
	unsigned int cpu;

	for_each_online_cpu(cpu) {
		struct cpufreq_policy *p = cpufreq_cpu_get(cpu);

		if (p && p->cpu == cpu)
			freq_qos_add_request(&p->constraints, &limit[cpu], FREQ_QOS_MAX,
					     khz[khz_count - 1]);
		if (p)
			cpufreq_cpu_put(p);
	}
	limited = true;
	cooler = thermal_cooling_device_register("cpufreq-cpu0", NULL, &cool_ops);
}

static ssize_t get_throttled_show(struct device *d, struct device_attribute *a, char *text)
{
	return sysfs_emit(text, "%x\n", throttled);
}
static DEVICE_ATTR_RO(get_throttled);
static struct platform_device *soc, *fw;

/* One property message with one tag; github.com/raspberrypi/utils, vcgencmd. */
#define GENERAL_COMMAND 0x00030080
#define TEXT 1024
enum { SIZE, CODE, TAG, ROOM, LENGTH, ERROR, HEAD };

static u32 vcio_answer(char *text)
{
	if (!strcmp(text, "measure_clock arm"))
		snprintf(text, TEXT, "frequency(%u)=%u", clock_index, sim_get(0) * 1000);
	else if (!strcmp(text, "measure_temp"))
		snprintf(text, TEXT, "temp=%d.%d'C", temp_mc[0] / 1000, temp_mc[0] % 1000 / 100);
	else if (!strcmp(text, "get_throttled"))
		snprintf(text, TEXT, "throttled=0x%x", throttled);
	else if (!strcmp(text, "pmic_read_adc") && pmic[0])
		strscpy(text, pmic, TEXT);
	else
		return 1;
	return 0;
}
static long vcio_ioctl(struct file *file, unsigned int request, unsigned long argument)
{
	char __user *message = (char __user *)argument;
	u32 head[HEAD];
	char *text;
	long rc = 0;

	if (request != _IOWR(100, 0, char *))
		return -EINVAL;
	if (copy_from_user(head, message, sizeof(head)))
		return -EFAULT;
	if (head[TAG] != GENERAL_COMMAND || head[ROOM] != TEXT ||
	    head[SIZE] < sizeof(head) + TEXT)
		return -EINVAL;
	text = memdup_user(message + sizeof(head), TEXT);
	if (IS_ERR(text))
		return PTR_ERR(text);
	text[TEXT - 1] = 0;
	kernel_param_lock(THIS_MODULE);	/* never half of a new pmic */
	head[ERROR] = vcio_answer(text);
	kernel_param_unlock(THIS_MODULE);
	head[CODE] = 0x80000000;
	if (copy_to_user(message, head, sizeof(head)) ||
	    copy_to_user(message + sizeof(head), text, TEXT))
		rc = -EFAULT;
	kfree(text);
	return rc;
}
static const struct file_operations vcio_ops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = vcio_ioctl,
};
static struct miscdevice vcio = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "vcio",
	.fops = &vcio_ops,
	.mode = 0660,
};

static int __init sim_firmware(void)
{
	soc = platform_device_register_simple("soc", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(soc))
		return PTR_ERR(soc);
	fw = platform_device_alloc("soc:firmware", PLATFORM_DEVID_NONE);
	if (!fw)
		return -ENOMEM;
	fw->dev.parent = &soc->dev;
	return platform_device_add(fw) ?:
	       device_create_file(&fw->dev, &dev_attr_get_throttled) ?: misc_register(&vcio);
}

static int __init sim_start(void)
{
	int i;

	for (i = 0; i < zone_count; i++) {
		tz[i] = thermal_zone_device_register(zones[i], 1, 0, (void *)(long)i, &tz_ops,
						     NULL, 0, 1000);
		if (IS_ERR(tz[i]))
			return PTR_ERR(tz[i]);
		thermal_zone_device_enable(tz[i]);
	}
	for (i = 0; i < khz_count; i++)
		table[i].frequency = khz[i];
	table[khz_count].frequency = CPUFREQ_TABLE_END;
	for (i = 0; i < NR_CPUS; i++)
		chosen[i] = khz[khz_count - 1];
	have_cpufreq = !cpufreq_register_driver(&drv);
	if (have_cpufreq && cap_by_kernel)
		sim_limit();
	return firmware ? sim_firmware() : 0;
}
module_init(sim_start);
/* No exit: a board's firmware is not unloaded either. */
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("simulated thermal zones, cpufreq and firmware for tests");
