//! The clean job that everyone in a comparison does, as numbers: limits, floors, and what must come out.
//!
//! For each line in order of arrival, a series being (device, sensor):
//! 1. parse; what is not a JSON object with all six fields is malformed;
//! 2. dedupe by `seq` with a window of 64 numbers below the series' highest;
//! 3. range, both ends allowed;
//! 4. Hampel over the last 7 values that passed, this one included: a spike is further from the median than
//!    `max(4.4478 × MAD, floor)`; it is left out but stays in the window;
//! 5. temperatures become kelvin.

use serde::Serialize;

/// What a sensor's values may be and how they are judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sensor {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Distance from the median that is never a spike.
    pub(crate) floor: f64,
    /// Added to turn the value into the unit that the table wants.
    pub(crate) add: f64,
}

/// Threshold of 3 standard deviations in units of the MAD.
pub(crate) const SCALE: f64 = 3.0 * 1.4826;

/// The five sensors of a device.
pub(crate) const SENSORS: [Sensor; 5] = [
    Sensor { name: "temp", unit: "C", low: -40.0, high: 85.0, floor: 0.5, add: 273.15 },
    Sensor { name: "humidity", unit: "%", low: 0.0, high: 100.0, floor: 1.5, add: 0.0 },
    Sensor { name: "pressure", unit: "hPa", low: 300.0, high: 1100.0, floor: 2.5, add: 0.0 },
    Sensor { name: "vibration", unit: "mm/s", low: 0.0, high: 50.0, floor: 1.0, add: 0.0 },
    Sensor { name: "voltage", unit: "V", low: 0.0, high: 32.0, floor: 0.25, add: 0.0 },
];

/// What came of each line. A run whose counts differ from the workload's is not a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) lines: u64,
    pub(crate) malformed: u64,
    pub(crate) duplicates: u64,
    pub(crate) out_of_range: u64,
    pub(crate) spikes: u64,
    pub(crate) survivors: u64,
}

/// The job as blocks of a pipeline file: the words a user would write.
pub(crate) const PIPELINE: &str = r#"
[schema]
time = { field = "ts", unit = "ms" }
series = ["device", "sensor"]
fields = { value = "float", unit = "string", seq = "integer" }
unknown = "ignore"

[[clean]]
type = "dedupe"
by = "seq"
within = 64

[[clean]]
type = "range"
field = "value"
by = "sensor"
limits = { temp = [-40, 85], humidity = [0, 100], pressure = [300, 1100], vibration = [0, 50], voltage = [0, 32] }
action = "drop"

[[clean]]
type = "hampel"
field = "value"
window = 7
by = "sensor"
floor = { temp = 0.5, humidity = 1.5, pressure = 2.5, vibration = 1.0, voltage = 0.25 }
action = "drop"

[[clean]]
type = "convert"
field = "value"
unit_field = "unit"
by = "sensor"
to = { temp = "K" }
"#;
