// SPDX-License-Identifier: GPL-2.0
/*
 * edge_i2c: an I2C bus described by the device tree node compatible = "edge,i2c-sim".
 * Its chips are 256 sixteen-bit registers each, big-endian on the wire like TI's power
 * monitors; the node's children bind their ordinary kernel drivers, with the labels and
 * shunt values of the tree, as on a Jetson.
 *
 * Registers are set through the parameter poke: "<addr> <reg> <value> ..." in hex. All of
 * one write change at once, so volts and amperes of several rails stay one load.
 * Property edge,preset = <addr reg value ...> gives the values at boot.
 */
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/i2c.h>
#include <linux/of.h>

static u16 regs[128][256];
static DECLARE_BITMAP(present, 128);
static DEFINE_MUTEX(regs_lock);

static int poke_set(const char *text, const struct kernel_param *kp)
{
	unsigned int addr, reg, value;
	int used;

	mutex_lock(&regs_lock);
	while (sscanf(text, " %x %x %x%n", &addr, &reg, &value, &used) >= 3) {
		regs[addr & 127][reg & 255] = swab16(value);
		text += used;
	}
	mutex_unlock(&regs_lock);
	return 0;
}
static const struct kernel_param_ops poke_ops = { .set = poke_set };
module_param_cb(poke, &poke_ops, NULL, 0200);

static s32 sim_xfer(struct i2c_adapter *a, u16 addr, unsigned short flags,
		    char rw, u8 cmd, int size, union i2c_smbus_data *d)
{
	s32 result = 0;

	if (addr >= 128 || !test_bit(addr, present))
		return -ENODEV;
	mutex_lock(&regs_lock);
	switch (size) {
	case I2C_SMBUS_QUICK:
		break;
	case I2C_SMBUS_BYTE_DATA:
		if (rw == I2C_SMBUS_WRITE)
			regs[addr][cmd] = d->byte;
		else
			d->byte = regs[addr][cmd] & 0xff;
		break;
	case I2C_SMBUS_WORD_DATA:
		if (rw == I2C_SMBUS_WRITE)
			regs[addr][cmd] = d->word;
		else
			d->word = regs[addr][cmd];
		break;
	default:
		result = -EOPNOTSUPP;
	}
	mutex_unlock(&regs_lock);
	return result;
}
static u32 sim_func(struct i2c_adapter *a)
{
	return I2C_FUNC_SMBUS_QUICK | I2C_FUNC_SMBUS_BYTE_DATA | I2C_FUNC_SMBUS_WORD_DATA;
}
static const struct i2c_algorithm algo = { .smbus_xfer = sim_xfer, .functionality = sim_func };
static struct i2c_adapter adap = { .owner = THIS_MODULE, .name = "edge simulated i2c", .algo = &algo };

static int __init edge_i2c_init(void)
{
	struct device_node *np = of_find_compatible_node(NULL, NULL, "edge,i2c-sim"), *c;
	u32 v[3];
	int i, rc;

	if (!np)
		return -ENODEV;
	for_each_child_of_node(np, c)
		if (!of_property_read_u32(c, "reg", &v[0]) && v[0] < 128)
			set_bit(v[0], present);
	for (i = 0; !of_property_read_u32_index(np, "edge,preset", i + 2, &v[2]); i += 3) {
		of_property_read_u32_index(np, "edge,preset", i, &v[0]);
		of_property_read_u32_index(np, "edge,preset", i + 1, &v[1]);
		regs[v[0] & 127][v[1] & 255] = swab16(v[2]);
	}
	adap.dev.of_node = np;
	rc = i2c_add_adapter(&adap);
	if (rc)
		of_node_put(np);
	return rc;
}
static void __exit edge_i2c_exit(void)
{
	i2c_del_adapter(&adap);
}
module_init(edge_i2c_init);
module_exit(edge_i2c_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("simulated i2c bus from the device tree, for tests");
