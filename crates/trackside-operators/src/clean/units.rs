//! Units of measurement: what they measure, and their size.
//!
//! Symbols follow UCUM and common use and are told apart by case (`mW` is not `MW`); names are lower case and taken in any.
//! `µ` may be written `u`, `²` and `³` as `2` and `3`. A conversion multiplies and divides by whole numbers where the units
//! allow it, so that 36 km/h is 10 m/s to the bit.

use trackside_core::error::{ConfigError, suggestion};

/// What a unit measures. Units convert within one quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    Temperature,
    Pressure,
    Speed,
    Acceleration,
    Length,
    Area,
    Volume,
    Mass,
    Force,
    Torque,
    VolumeFlow,
    MassFlow,
    Density,
    Energy,
    Power,
    ApparentPower,
    Frequency,
    Angle,
    Voltage,
    Current,
    Resistance,
    Charge,
    Conductivity,
    MagneticFluxDensity,
    Irradiance,
    Ratio,
    Data,
    DataRate,
    Time,
}

impl Quantity {
    /// In words.
    fn name(self) -> String {
        let mut words = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_uppercase() && !words.is_empty() {
                words.push(' ');
            }
            words.push(letter.to_ascii_lowercase());
        }
        words
    }
}

/// One unit: a value v of it is `(v - zero) * numerator / denominator` of its quantity's base unit.
#[derive(Debug, PartialEq)]
pub(super) struct Unit {
    quantity: Quantity,
    numerator: f64,
    denominator: f64,
    /// Where the base unit's zero lies on this unit's scale.
    zero: f64,
    /// Symbols, then names; the first is how messages call it.
    names: &'static [&'static str],
}

const fn unit(quantity: Quantity, numerator: f64, denominator: f64, names: &'static [&'static str]) -> Unit {
    Unit { quantity, numerator, denominator, zero: 0.0, names }
}

const fn degrees(numerator: f64, denominator: f64, zero: f64, names: &'static [&'static str]) -> Unit {
    Unit { quantity: Quantity::Temperature, numerator, denominator, zero, names }
}

/// Every unit there is.
#[rustfmt::skip] // a table reads as one
pub(super) const UNITS: &[Unit] = {
    use Quantity::*;
    use std::f64::consts::PI;
    const INCH: f64 = 0.0254;
    const POUND: f64 = 0.453_592_37;
    const GRAVITY: f64 = 9.806_65;
    const GALLON: f64 = 3.785_411_784; // litres, US
    const BARREL: f64 = 158.987_294_928; // litres, of oil
    &[
        // Base: °C, so that the usual conversions are one addition.
        degrees(1.0, 1.0, 0.0, &["C", "°C", "degC", "Cel", "celsius", "degree celsius", "degrees celsius"]),
        degrees(1.0, 1.0, 273.15, &["K", "kelvin"]),
        degrees(5.0, 9.0, 32.0, &["F", "°F", "degF", "[degF]", "fahrenheit", "degree fahrenheit", "degrees fahrenheit"]),
        degrees(5.0, 9.0, 491.67, &["R", "°R", "degR", "[degR]", "rankine"]),
        // Base: Pa
        unit(Pressure, 1.0, 1.0, &["Pa", "pascal"]),
        unit(Pressure, 100.0, 1.0, &["hPa", "hectopascal", "mbar", "millibar"]),
        unit(Pressure, 1e3, 1.0, &["kPa", "kilopascal"]),
        unit(Pressure, 1e6, 1.0, &["MPa", "megapascal"]),
        unit(Pressure, 1e5, 1.0, &["bar"]),
        unit(Pressure, 101_325.0, 1.0, &["atm", "atmosphere"]),
        unit(Pressure, 101_325.0, 760.0, &["Torr", "torr"]),
        unit(Pressure, 133.322_387_415, 1.0, &["mmHg", "mm[Hg]"]),
        unit(Pressure, 3_386.389, 1.0, &["inHg", "[in_i'Hg]"]),
        unit(Pressure, 249.088_91, 1.0, &["inH2O", "[in_i'H2O]"]),
        unit(Pressure, GRAVITY, 1.0, &["mmH2O"]),
        unit(Pressure, POUND * GRAVITY, INCH * INCH, &["psi", "[psi]", "lbf/in2"]),
        // Base: m/s
        unit(Speed, 1.0, 1.0, &["m/s", "metre per second", "meter per second"]),
        unit(Speed, 1.0, 1e3, &["mm/s"]),
        unit(Speed, 1.0, 1e6, &["um/s"]),
        unit(Speed, 1.0, 100.0, &["cm/s"]),
        unit(Speed, 1.0, 60.0, &["m/min"]),
        unit(Speed, 1e3, 3600.0, &["km/h", "kph", "kmh"]),
        unit(Speed, 1609.344, 3600.0, &["mph", "[mi_i]/h", "mi/h"]),
        unit(Speed, 1852.0, 3600.0, &["kn", "kt", "[kn_i]", "knot", "knots"]),
        unit(Speed, 0.3048, 1.0, &["ft/s", "fps"]),
        unit(Speed, 0.3048, 60.0, &["ft/min", "fpm"]),
        unit(Speed, INCH, 1.0, &["in/s", "ips"]),
        // Base: m/s2
        unit(Acceleration, 1.0, 1.0, &["m/s2"]),
        unit(Acceleration, 1.0, 1e3, &["mm/s2"]),
        unit(Acceleration, GRAVITY, 1.0, &["g0", "[g]", "gn", "standard gravity"]),
        unit(Acceleration, GRAVITY, 1e3, &["mg0", "m[g]"]),
        unit(Acceleration, 0.3048, 1.0, &["ft/s2"]),
        // Base: m
        unit(Length, 1.0, 1.0, &["m", "metre", "meter", "metres", "meters"]),
        unit(Length, 1.0, 1e9, &["nm", "nanometre", "nanometer"]),
        unit(Length, 1.0, 1e6, &["um", "micrometre", "micrometer", "micron"]),
        unit(Length, 1.0, 1e3, &["mm", "millimetre", "millimeter"]),
        unit(Length, 1.0, 100.0, &["cm", "centimetre", "centimeter"]),
        unit(Length, 1e3, 1.0, &["km", "kilometre", "kilometer"]),
        unit(Length, INCH, 1.0, &["in", "[in_i]", "inch", "inches"]),
        unit(Length, INCH, 1e3, &["mil", "thou"]),
        unit(Length, 0.3048, 1.0, &["ft", "[ft_i]", "foot", "feet"]),
        unit(Length, 0.9144, 1.0, &["yd", "[yd_i]", "yard", "yards"]),
        unit(Length, 1609.344, 1.0, &["mi", "[mi_i]", "mile", "miles"]),
        unit(Length, 1852.0, 1.0, &["nmi", "[nmi_i]", "nautical mile", "nautical miles"]),
        // Base: m2
        unit(Area, 1.0, 1.0, &["m2", "square metre", "square meter"]),
        unit(Area, 1.0, 1e6, &["mm2"]),
        unit(Area, 1.0, 1e4, &["cm2"]),
        unit(Area, 1e6, 1.0, &["km2"]),
        unit(Area, 1e4, 1.0, &["ha", "har", "hectare"]),
        unit(Area, INCH * INCH, 1.0, &["in2", "[sin_i]"]),
        unit(Area, 0.092_903_04, 1.0, &["ft2", "sqft", "[sft_i]"]),
        unit(Area, 4_046.856_422_4, 1.0, &["acre"]),
        // Base: L
        unit(Volume, 1.0, 1.0, &["L", "l", "litre", "liter", "litres", "liters", "dm3"]),
        unit(Volume, 1.0, 1e3, &["mL", "ml", "millilitre", "milliliter", "cm3", "cc"]),
        unit(Volume, 1.0, 1e6, &["uL", "ul", "mm3"]),
        unit(Volume, 1e3, 1.0, &["m3", "cubic metre", "cubic meter"]),
        unit(Volume, 100.0, 1.0, &["hL", "hl"]),
        unit(Volume, GALLON, 1.0, &["gal", "[gal_us]", "gallon", "gallons"]),
        unit(Volume, 4.546_09, 1.0, &["impgal", "[gal_br]", "imperial gallon"]),
        unit(Volume, GALLON, 128.0, &["floz", "[foz_us]"]),
        unit(Volume, 28.316_846_592, 1.0, &["ft3", "cu ft", "[cft_i]"]),
        unit(Volume, 0.016_387_064, 1.0, &["in3", "cu in", "[cin_i]"]),
        unit(Volume, BARREL, 1.0, &["bbl", "[bbl_us]", "barrel", "barrels"]),
        // Base: kg
        unit(Mass, 1.0, 1.0, &["kg", "kilogram", "kilograms"]),
        unit(Mass, 1.0, 1e3, &["g", "gram", "grams"]),
        unit(Mass, 1.0, 1e6, &["mg", "milligram"]),
        unit(Mass, 1.0, 1e9, &["ug", "microgram"]),
        unit(Mass, 1e3, 1.0, &["t", "tonne", "tonnes"]),
        unit(Mass, POUND, 1.0, &["lb", "[lb_av]", "pound", "pounds"]),
        unit(Mass, POUND, 16.0, &["oz", "[oz_av]", "ounce", "ounces"]),
        unit(Mass, POUND * 2000.0, 1.0, &["short ton", "[ston_av]"]),
        unit(Mass, POUND * 14.0, 1.0, &["stone", "[stone_av]"]),
        // Base: N
        unit(Force, 1.0, 1.0, &["N", "newton"]),
        unit(Force, 1e3, 1.0, &["kN", "kilonewton"]),
        unit(Force, GRAVITY, 1.0, &["kgf", "kilogram-force"]),
        unit(Force, POUND * GRAVITY, 1.0, &["lbf", "[lbf_av]", "pound-force"]),
        // Base: N m
        unit(Torque, 1.0, 1.0, &["Nm", "N.m", "newton metre", "newton meter"]),
        unit(Torque, POUND * GRAVITY * 0.3048, 1.0, &["lbf.ft", "ft.lbf", "lb.ft"]),
        unit(Torque, POUND * GRAVITY * INCH, 1.0, &["lbf.in", "in.lbf", "lb.in"]),
        // Base: L/s
        unit(VolumeFlow, 1.0, 1.0, &["L/s", "l/s", "lps"]),
        unit(VolumeFlow, 1.0, 60.0, &["L/min", "l/min", "lpm", "LPM"]),
        unit(VolumeFlow, 1.0, 3600.0, &["L/h", "l/h", "lph"]),
        unit(VolumeFlow, 1.0, 60e3, &["mL/min", "ml/min"]),
        unit(VolumeFlow, 1e3, 1.0, &["m3/s", "cms"]),
        unit(VolumeFlow, 1e3, 60.0, &["m3/min"]),
        unit(VolumeFlow, 1e3, 3600.0, &["m3/h", "cmh", "CMH"]),
        unit(VolumeFlow, 28.316_846_592, 60.0, &["cfm", "CFM", "ft3/min"]),
        unit(VolumeFlow, 28.316_846_592, 1.0, &["cfs", "ft3/s"]),
        unit(VolumeFlow, GALLON, 60.0, &["gpm", "GPM", "gal/min"]),
        unit(VolumeFlow, GALLON, 3600.0, &["gph", "GPH", "gal/h"]),
        unit(VolumeFlow, BARREL, 86_400.0, &["bbl/d", "bpd"]),
        // Base: kg/s
        unit(MassFlow, 1.0, 1.0, &["kg/s"]),
        unit(MassFlow, 1.0, 60.0, &["kg/min"]),
        unit(MassFlow, 1.0, 3600.0, &["kg/h"]),
        unit(MassFlow, 1.0, 1e3, &["g/s"]),
        unit(MassFlow, 1.0, 60e3, &["g/min"]),
        unit(MassFlow, 1e3, 3600.0, &["t/h"]),
        unit(MassFlow, POUND, 3600.0, &["lb/h"]),
        unit(MassFlow, POUND, 60.0, &["lb/min"]),
        // Base: kg/m3
        unit(Density, 1.0, 1.0, &["kg/m3", "g/L", "g/l"]),
        unit(Density, 1e3, 1.0, &["g/cm3", "kg/L", "kg/l", "g/mL"]),
        unit(Density, 1.0, 1e3, &["g/m3", "mg/L", "mg/l"]),
        unit(Density, 1.0, 1e6, &["mg/m3", "ug/L", "ug/l"]),
        unit(Density, 1.0, 1e9, &["ug/m3"]),
        unit(Density, POUND, 0.028_316_846_592, &["lb/ft3"]),
        // Base: J
        unit(Energy, 1.0, 1.0, &["J", "joule", "joules", "Ws"]),
        unit(Energy, 1e3, 1.0, &["kJ", "kilojoule"]),
        unit(Energy, 1e6, 1.0, &["MJ", "megajoule"]),
        unit(Energy, 1e9, 1.0, &["GJ", "gigajoule"]),
        unit(Energy, 3600.0, 1.0, &["Wh", "W.h", "watt hour", "watt-hour"]),
        unit(Energy, 3.6e6, 1.0, &["kWh", "kW.h", "kilowatt hour", "kilowatt-hour"]),
        unit(Energy, 3.6e9, 1.0, &["MWh", "MW.h", "megawatt hour", "megawatt-hour"]),
        unit(Energy, 3.6e12, 1.0, &["GWh", "GW.h"]),
        unit(Energy, 4.184, 1.0, &["cal", "calorie"]),
        unit(Energy, 4184.0, 1.0, &["kcal", "kilocalorie"]),
        unit(Energy, 1_055.055_852_62, 1.0, &["BTU", "Btu", "[Btu_IT]"]),
        unit(Energy, 105_505_585.262, 1.0, &["thm", "therm"]),
        // Base: W
        unit(Power, 1.0, 1.0, &["W", "watt", "watts", "J/s"]),
        unit(Power, 1.0, 1e6, &["uW", "microwatt"]),
        unit(Power, 1.0, 1e3, &["mW", "milliwatt"]),
        unit(Power, 1e3, 1.0, &["kW", "kilowatt", "kilowatts"]),
        unit(Power, 1e6, 1.0, &["MW", "megawatt", "megawatts"]),
        unit(Power, 1e9, 1.0, &["GW", "gigawatt"]),
        unit(Power, 75.0 * GRAVITY, 1.0, &["PS", "metric horsepower"]),
        unit(Power, 550.0 * POUND * GRAVITY * 0.3048, 1.0, &["hp", "[HP]", "horsepower"]),
        unit(Power, 1_055.055_852_62, 3600.0, &["BTU/h", "Btu/h", "[Btu_IT]/h"]),
        // Base: VA
        unit(ApparentPower, 1.0, 1.0, &["VA", "var", "VAr"]),
        unit(ApparentPower, 1e3, 1.0, &["kVA", "kvar", "kVAr"]),
        unit(ApparentPower, 1e6, 1.0, &["MVA", "Mvar", "MVAr"]),
        // Base: Hz; turns and events are counted alike
        unit(Frequency, 1.0, 1.0, &["Hz", "hertz", "1/s", "/s", "s-1", "rps"]),
        unit(Frequency, 1.0, 1e3, &["mHz", "millihertz"]),
        unit(Frequency, 1e3, 1.0, &["kHz", "kilohertz"]),
        unit(Frequency, 1e6, 1.0, &["MHz", "megahertz"]),
        unit(Frequency, 1e9, 1.0, &["GHz", "gigahertz"]),
        unit(Frequency, 1.0, 60.0, &["rpm", "RPM", "1/min", "/min", "r/min", "bpm", "cpm"]),
        unit(Frequency, 1.0, 3600.0, &["1/h", "/h"]),
        unit(Frequency, 1.0, 2.0 * PI, &["rad/s"]),
        unit(Frequency, 1.0, 360.0, &["deg/s", "°/s", "dps"]),
        // Base: degree
        unit(Angle, 1.0, 1.0, &["deg", "°", "degree", "degrees"]),
        unit(Angle, 180.0, PI, &["rad", "radian", "radians"]),
        unit(Angle, 180.0, 1e3 * PI, &["mrad", "milliradian"]),
        unit(Angle, 9.0, 10.0, &["gon", "gradian"]),
        unit(Angle, 1.0, 60.0, &["arcmin", "'"]),
        unit(Angle, 1.0, 3600.0, &["arcsec", "''"]),
        unit(Angle, 360.0, 1.0, &["rev", "turn", "turns", "revolution", "revolutions"]),
        // Base: V
        unit(Voltage, 1.0, 1.0, &["V", "volt", "volts"]),
        unit(Voltage, 1.0, 1e6, &["uV", "microvolt"]),
        unit(Voltage, 1.0, 1e3, &["mV", "millivolt"]),
        unit(Voltage, 1e3, 1.0, &["kV", "kilovolt"]),
        // Base: A
        unit(Current, 1.0, 1.0, &["A", "ampere", "amperes", "amp", "amps"]),
        unit(Current, 1.0, 1e6, &["uA", "microampere"]),
        unit(Current, 1.0, 1e3, &["mA", "milliampere"]),
        unit(Current, 1e3, 1.0, &["kA", "kiloampere"]),
        // Base: Ω
        unit(Resistance, 1.0, 1.0, &["Ohm", "Ω", "\u{2126}", "ohm", "ohms"]),
        unit(Resistance, 1.0, 1e3, &["mOhm", "mΩ", "milliohm"]),
        unit(Resistance, 1e3, 1.0, &["kOhm", "kΩ", "kiloohm"]),
        unit(Resistance, 1e6, 1.0, &["MOhm", "MΩ", "megaohm"]),
        // Base: C
        unit(Charge, 1.0, 1.0, &["coulomb", "As", "A.s"]),
        unit(Charge, 3600.0, 1.0, &["Ah", "A.h", "ampere hour"]),
        unit(Charge, 3.6, 1.0, &["mAh", "mA.h", "milliampere hour"]),
        // Base: S/m
        unit(Conductivity, 1.0, 1.0, &["S/m"]),
        unit(Conductivity, 1.0, 10.0, &["mS/cm"]),
        unit(Conductivity, 1.0, 1e4, &["uS/cm"]),
        // Base: T
        unit(MagneticFluxDensity, 1.0, 1.0, &["T", "tesla"]),
        unit(MagneticFluxDensity, 1.0, 1e3, &["mT", "millitesla"]),
        unit(MagneticFluxDensity, 1.0, 1e6, &["uT", "microtesla"]),
        unit(MagneticFluxDensity, 1.0, 1e9, &["nT", "nanotesla"]),
        unit(MagneticFluxDensity, 1.0, 1e4, &["gauss"]),
        // Base: W/m2
        unit(Irradiance, 1.0, 1.0, &["W/m2"]),
        unit(Irradiance, 1e3, 1.0, &["kW/m2"]),
        unit(Irradiance, 10.0, 1.0, &["mW/cm2"]),
        // Base: 1
        unit(Ratio, 1.0, 1.0, &["1", "ratio", "fraction"]),
        unit(Ratio, 1.0, 100.0, &["%", "percent", "pct", "%RH"]),
        unit(Ratio, 1.0, 1e3, &["‰", "[ppth]", "permille", "per mille"]),
        unit(Ratio, 1.0, 1e6, &["ppm", "[ppm]"]),
        unit(Ratio, 1.0, 1e9, &["ppb", "[ppb]"]),
        // Base: byte
        unit(Data, 1.0, 1.0, &["B", "By", "byte", "bytes"]),
        unit(Data, 1.0, 8.0, &["bit", "bits"]),
        unit(Data, 1e3, 8.0, &["kbit", "kilobit"]),
        unit(Data, 1e6, 8.0, &["Mbit", "megabit"]),
        unit(Data, 1e9, 8.0, &["Gbit", "gigabit"]),
        unit(Data, 1e3, 1.0, &["kB", "kilobyte"]),
        unit(Data, 1e6, 1.0, &["MB", "megabyte"]),
        unit(Data, 1e9, 1.0, &["GB", "gigabyte"]),
        unit(Data, 1e12, 1.0, &["TB", "terabyte"]),
        unit(Data, 1024.0, 1.0, &["KiB", "kibibyte"]),
        unit(Data, 1_048_576.0, 1.0, &["MiB", "mebibyte"]),
        unit(Data, 1_073_741_824.0, 1.0, &["GiB", "gibibyte"]),
        unit(Data, 1_099_511_627_776.0, 1.0, &["TiB", "tebibyte"]),
        // Base: byte/s
        unit(DataRate, 1.0, 1.0, &["B/s", "byte/s"]),
        unit(DataRate, 1e3, 1.0, &["kB/s"]),
        unit(DataRate, 1e6, 1.0, &["MB/s"]),
        unit(DataRate, 1e9, 1.0, &["GB/s"]),
        unit(DataRate, 1024.0, 1.0, &["KiB/s"]),
        unit(DataRate, 1_048_576.0, 1.0, &["MiB/s"]),
        unit(DataRate, 1.0, 8.0, &["bit/s", "bps"]),
        unit(DataRate, 1e3, 8.0, &["kbit/s", "kbps"]),
        unit(DataRate, 1e6, 8.0, &["Mbit/s", "Mbps"]),
        unit(DataRate, 1e9, 8.0, &["Gbit/s", "Gbps"]),
        // Base: s
        unit(Time, 1.0, 1.0, &["s", "second", "seconds", "sec"]),
        unit(Time, 1.0, 1e9, &["ns", "nanosecond", "nanoseconds"]),
        unit(Time, 1.0, 1e6, &["us", "microsecond", "microseconds"]),
        unit(Time, 1.0, 1e3, &["ms", "millisecond", "milliseconds"]),
        unit(Time, 60.0, 1.0, &["min", "minute", "minutes"]),
        unit(Time, 3600.0, 1.0, &["h", "hour", "hours"]),
        unit(Time, 86_400.0, 1.0, &["d", "day", "days"]),
        unit(Time, 604_800.0, 1.0, &["wk", "week", "weeks"]),
    ]
};

impl Unit {
    /// How messages call it.
    pub(super) fn symbol(&self) -> &'static str {
        self.names[0]
    }
}

/// The unit of that symbol or name.
pub(super) fn find(text: &str) -> Option<&'static Unit> {
    let plain = plain(text);
    let named = |name: &str| UNITS.iter().find(|unit| unit.names.contains(&name));
    // Names have at least 3 letters; a shorter text in another case is another symbol, or none.
    named(&plain).or_else(|| named(&plain.to_lowercase()).filter(|_| plain.chars().count() >= 3))
}

/// The spelling that the table has.
fn plain(text: &str) -> String {
    let one = |letter: char| match letter {
        'µ' | 'μ' => Some('u'),
        '²' => Some('2'),
        '³' => Some('3'),
        '·' | '⋅' => Some('.'),
        'º' => Some('°'),
        '^' => None,
        other => Some(other),
    };
    text.trim().chars().filter_map(one).collect()
}

/// The unit that a configuration names at `path`.
pub(super) fn configured(path: &str, text: &str) -> Result<&'static Unit, ConfigError> {
    find(text).ok_or_else(|| {
        let names: Vec<&str> = UNITS.iter().flat_map(|unit| unit.names.iter().copied()).collect();
        let near = suggestion(text, &names);
        let near = if near.contains("did you mean") { near } else { String::new() };
        ConfigError::new(path, format!("unknown unit `{text}`{near}"))
            .with_help("use a symbol or name such as `C`, `kPa`, `km/h`, `kWh`, `rpm` or `percent`")
    })
}

/// From one unit to another: `(v - zero_from) * numerator / denominator + zero_to`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Conversion {
    zero_from: f64,
    numerator: f64,
    denominator: f64,
    zero_to: f64,
}

impl Conversion {
    /// None when the units measure different quantities.
    pub(super) fn new(from: &Unit, to: &Unit) -> Option<Self> {
        (from.quantity == to.quantity).then_some(Self {
            zero_from: from.zero,
            numerator: from.numerator * to.denominator,
            denominator: from.denominator * to.numerator,
            zero_to: to.zero,
        })
    }

    /// Whether it leaves every value as it is.
    pub(super) fn is_identity(&self) -> bool {
        self.numerator == self.denominator && self.zero_from == self.zero_to
    }

    #[inline]
    pub(super) fn apply(&self, value: f64) -> f64 {
        (value - self.zero_from) * self.numerator / self.denominator + self.zero_to
    }
}

/// What to say when two units do not go together.
pub(super) fn incompatible(from: &Unit, to: &Unit) -> String {
    let (a, b) = (from.quantity.name(), to.quantity.name());
    format!("`{}` ({a}) cannot become `{}` ({b})", from.symbol(), to.symbol())
}

/// The units that convert to this one, for advice.
pub(super) fn siblings(unit: &Unit) -> String {
    let same =
        UNITS.iter().filter(|other| other.quantity == unit.quantity).map(|other| format!("`{}`", other.symbol()));
    same.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn convert(value: f64, from: &str, to: &str) -> f64 {
        Conversion::new(find(from).unwrap(), find(to).unwrap()).unwrap().apply(value)
    }

    #[test]
    fn no_name_means_two_units_and_every_name_is_found() {
        let mut seen = HashMap::new();
        for unit in UNITS {
            for name in unit.names {
                assert_eq!(seen.insert(*name, unit.symbol()), None, "`{name}` twice");
                assert_eq!(find(name), Some(unit), "`{name}`");
            }
        }
    }

    #[test]
    fn whole_conversions_are_exact() {
        for (value, from, to, expected) in [
            (21.5, "C", "K", 21.5 + 273.15),
            (100.0, "°C", "degF", 212.0),
            (-40.0, "F", "celsius", -40.0),
            (273.15, "K", "C", 0.0),
            (36.0, "km/h", "m/s", 10.0),
            (1013.25, "hPa", "Pa", 101_325.0),
            (101_325.0, "Pa", "mbar", 1013.25),
            (1.0, "kWh", "MJ", 3.6),
            (3000.0, "rpm", "Hz", 50.0),
            (50.0, "%", "ratio", 0.5),
            (1.0, "GiB", "MiB", 1024.0),
            (8.0, "Mbit/s", "MB/s", 1.0),
            (90.0, "min", "h", 1.5),
            (1.0, "m³/h", "L/h", 1000.0),
        ] {
            assert_eq!(convert(value, from, to), expected, "{value} {from} in {to}");
        }
    }

    #[test]
    fn published_equivalents_hold() {
        for (value, from, to, expected) in [
            (1.0, "psi", "Pa", 6_894.757_293_168),
            (1.0, "mph", "km/h", 1.609_344),
            (1.0, "kn", "km/h", 1.852),
            (1.0, "gal", "L", 3.785_411_784),
            (1.0, "hp", "W", 745.699_871_58),
            (1.0, "PS", "W", 735.498_75),
            (1.0, "inHg", "hPa", 33.863_89),
            (180.0, "deg", "rad", std::f64::consts::PI),
            (60.0, "rpm", "rad/s", 2.0 * std::f64::consts::PI),
            (1.0, "BTU/h", "W", 0.293_071_070_172),
            (1.0, "cfm", "m3/h", 1.699_010_795_52),
            (1.0, "oz", "g", 28.349_523_125),
            (491.67, "R", "C", 0.0),
        ] {
            let got = convert(value, from, to);
            assert!((got - expected).abs() <= expected.abs() * 1e-9, "{value} {from} = {got} {to}, not {expected}");
        }
    }

    #[test]
    fn there_and_back_is_the_same() {
        for from in UNITS {
            for to in UNITS {
                if let (Some(there), Some(back)) = (Conversion::new(from, to), Conversion::new(to, from)) {
                    let got = back.apply(there.apply(12.5));
                    assert!((got - 12.5).abs() < 1e-6, "{} to {} and back: {got}", from.symbol(), to.symbol());
                }
            }
        }
    }

    #[test]
    fn spelling_is_forgiven_and_case_of_symbols_is_not() {
        assert_eq!(find("µm/s"), find("um/s"));
        assert_eq!(find(" m^2 "), find("m²"));
        assert_eq!(find("Celsius"), find("C"));
        assert_ne!(find("mW"), find("MW"));
        assert_eq!(find("k"), None);
        assert!(configured("to", "celcius").unwrap_err().message.contains("did you mean `celsius`?"));
        assert!(!configured("to", "furlongs per fortnight").unwrap_err().message.contains("choose"));
        let message = incompatible(find("C").unwrap(), find("L/min").unwrap());
        assert_eq!(message, "`C` (temperature) cannot become `L/min` (volume flow)");
    }
}
