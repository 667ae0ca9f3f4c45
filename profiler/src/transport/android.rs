//! What Android's services tell and change: `dumpsys`, `settings`, `svc`, `cmd power`.

use fleetfoot_protocol::{Battery, Health};

use crate::device::Hygiene;
use crate::unready::printable;

/// Asks for the state of battery and heat.
pub(super) const STATE: &str = "dumpsys battery 2>/dev/null; echo; dumpsys thermalservice 2>/dev/null";

/// Adds to a device's state what [`STATE`] told.
pub(super) fn complement(health: &mut Health, told: &str) {
    let field = |name: &str| {
        let line = told.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned())
    };
    let number = |name: &str| field(name)?.parse::<f64>().ok().filter(|number| number.is_finite());
    if let Some(level) = number("level") {
        let scale = number("scale").filter(|scale| *scale > 0.0).unwrap_or(100.0);
        health.battery = Some(Battery {
            percent: Some(100.0 * level / scale),
            // BatteryManager's numbers: 2 charging, 3 discharging, 4 not charging, 5 full.
            discharging: number("status") == Some(3.0),
            celsius: number("temperature").map(|tenths| tenths / 10.0),
            milliwatts: health.battery.and_then(|battery| battery.milliwatts),
        });
    }
    // Somebody has set the status by hand: it tells nothing.
    if field("IsStatusOverride").as_deref() != Some("true") {
        health.thermal_status =
            number("Thermal Status").filter(|status| (0.0..=6.0).contains(status)).map(|status| status as u8);
    }
    health.temperatures.extend(temperatures(told));
}

/// The sensors' values now, else the last ones that are remembered.
fn temperatures(told: &str) -> Vec<(String, f64)> {
    let section = |title: &str| {
        let lines = told.lines().skip_while(move |line| !line.trim().starts_with(title)).skip(1);
        lines.map_while(|line| line.trim().strip_prefix("Temperature{")).filter_map(sensor).collect::<Vec<_>>()
    };
    let now = section("Current temperatures from HAL");
    if now.is_empty() { section("Cached temperatures") } else { now }
}

/// `mValue=38.2, mType=0, mName=CPU0, mStatus=0}`
fn sensor(text: &str) -> Option<(String, f64)> {
    let fields = || text.trim_end_matches('}').split(',').filter_map(|field| field.trim().split_once('='));
    let field = |wanted: &str| fields().find(|(name, _)| *name == wanted).map(|(_, value)| value);
    let celsius = field("mValue")?.parse().ok()?;
    // Sensors that aren't there answer with absurd values.
    (-40.0..150.0).contains(&celsius).then(|| Some((printable(field("mName")?), celsius)))?
}

/// Android 11, the first with clocks that can be held.
const FIXED_SDK: u32 = 30;

/// Parts of a guard's script (`guard.rs`): `restore` puts back what the file `restore` says, if there is one; `change` writes down there what
/// there is and makes the phone's settings, as far as they are wanted and could be written down, and sets `told` to what they are. What a run
/// left that was cut off is what the next one puts back.
pub(super) fn settings(hygiene: &Hygiene) -> String {
    let (awake, fixed) = (u8::from(hygiene.stay_awake), u8::from(hygiene.fixed_performance));
    format!(
        r#"r="$f/restore"
restore() {{
[ -f "$r" ] || return 0
stay=; was=; fixed=; left=
while IFS== read -r name value; do case "$name" in stay) stay=$value;; was) was=$value;; fixed) fixed=$value;; esac; done < "$r"
case "$stay" in null) settings delete global stay_on_while_plugged_in || left=y;; ?*) settings put global stay_on_while_plugged_in "$stay" || left=y;; esac
case "$was" in Asleep|Dozing) input keyevent 223 || left=y;; esac
[ "$fixed" != on ] || cmd power set-fixed-performance-mode-enabled false || left=y
[ -n "$left" ] || rm -f "$r"
}} > /dev/null 2>&1
wakefulness() {{ dumpsys power 2>/dev/null | grep -o 'mWakefulness=[A-Za-z]*' | head -n 1 | tr -d ' ' | cut -d = -f 2; }}
change() {{
a=off; p=off
if [ {awake}{fixed} != 00 ] && [ ! -f "$r" ]; then
s=$(settings get global stay_on_while_plugged_in 2>/dev/null | tr -cd 0-9a-z)
w=$(wakefulness)
[ -z "$s" ] || {{ echo "stay=$s"; echo "was=$w"; echo "fixed=off"; }} > "$r.tmp" && mv "$r.tmp" "$r"
fi 2>/dev/null
grep -q '^fixed=' "$r" 2>/dev/null || {{ told='stay_awake=off fixed_performance=off'; return 0; }}
if [ {awake} = 1 ]; then
case "$(wakefulness)" in Asleep|Dozing) input keyevent 224 > /dev/null 2>&1;; esac
svc power stayon true > /dev/null 2>&1 && a=on
case "$a$(dumpsys battery 2>/dev/null)" in off*|*'powered: true'*) ;; *) a=only_on_power;; esac
fi
v=$(getprop ro.build.version.sdk 2>/dev/null)
if [ {fixed} = 1 ] && [ "${{v:-0}}" -ge {FIXED_SDK} ] && echo fixed=on >> "$r"; then
if cmd power set-fixed-performance-mode-enabled true > /dev/null 2>&1; then p=on; else echo fixed=off >> "$r"; fi
fi 2>/dev/null
told="stay_awake=$a fixed_performance=$p"
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATTERY: &str = "Current Battery Service state:\n  AC powered: false\n  USB powered: true\n  status: 3\n  level: 43\n  scale: 50\n  temperature: 312\n";

    #[test]
    fn battery_and_heat_are_read_as_android_tells_them() {
        let thermal = "IsStatusOverride: false\nThermal Status: 2\nCached temperatures:\n\tTemperature{mValue=38.2, mType=0, mName=CPU0, mStatus=0}\nHAL Ready: true\nCurrent temperatures from HAL:\n\tTemperature{mValue=41.5, mType=3, mName=skin\u{1b}[2J, mStatus=1}\n\tTemperature{mValue=-3.4028235E38, mType=1, mName=GPU, mStatus=0}\nCurrent cooling devices from HAL:\n";
        let mut health = Health::default();
        complement(&mut health, &format!("{BATTERY}\n{thermal}"));
        let battery = health.battery.unwrap();
        assert_eq!((battery.percent, battery.discharging, battery.celsius), (Some(86.0), true, Some(31.2)));
        assert_eq!(health.thermal_status, Some(2));
        assert_eq!(health.temperatures, [("skin [2J".to_owned(), 41.5)]);
        let mut health = Health::default();
        complement(
            &mut health,
            "IsStatusOverride: true\nThermal Status: 0\nCached temperatures:\n\tTemperature{mValue=38.2, mType=0, mName=CPU0, mStatus=0}\n",
        );
        assert_eq!((health.thermal_status, health.temperatures.len(), health.battery), (None, 1, None));
    }

    #[test]
    fn what_isnt_told_or_makes_no_sense_is_absent() {
        for told in [
            "",
            "Can't find service: battery\n",
            "level: x\nThermal Status: 9\nTemperature{}\nCached temperatures:\nTemperature{mValue=x}\n",
        ] {
            let mut health = Health::default();
            complement(&mut health, told);
            assert_eq!(health, Health::default(), "{told}");
        }
    }
}
