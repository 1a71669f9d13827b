//! `validate`: the templates of machines, as the repository has them and with what is declared.

use std::fs;

use crate::checkout::{Checkout, declaration};

const MACHINE: &str = "
[vm.web]
template = \"web.yaml.tera\"
vars = { greeting = \"hello\" }
[vm.web.libvirt]
image = \"/var/lib/libvirt/images/debian-12.qcow2\"
[vm.web.ssh]
identity = { file = \"/etc/backstay/secrets/web\" }
";

fn with_template(text: &str) -> Checkout {
    let checkout = Checkout::new();
    checkout.write(&format!("{}\n{MACHINE}", declaration("30d")));
    fs::create_dir(checkout.root().join("templates")).unwrap();
    fs::write(checkout.root().join("templates/web.yaml.tera"), text).unwrap();
    checkout
}

#[test]
fn a_template_that_renders_is_good_in_the_folder_and_in_a_commit() {
    let checkout =
        with_template("#cloud-config\nname: {{ vm.name | json }}\nmotd: {{ vars.greeting | json }}\n");
    checkout.run(&["validate", "backup"], 0);
    let commit = checkout.commit("Declare a machine");
    fs::remove_dir_all(checkout.root().join("templates")).unwrap();
    checkout.run(&["validate", "backup", "--rev", &commit], 0);
    let told = checkout.run(&["validate", "backup", "--format", "github"], 12);
    assert!(told.contains("web.yaml.tera") && told.contains("there is no such template"), "{told}");
}

#[test]
fn what_is_not_defined_is_told_with_its_place_and_that_of_the_declaration() {
    let checkout = with_template("#cloud-config\nmotd: {{ vars.farewell }}\n");
    let told = checkout.run(&["validate", "backup", "--format", "github"], 12);
    assert!(told.contains("file=backup/fleet.toml,line="), "{told}");
    assert!(told.contains("farewell") && told.contains("web.yaml.tera"), "{told}");
}

#[test]
fn a_template_that_is_built_in_needs_no_file() {
    let checkout = with_template("");
    let declared = MACHINE.replace("web.yaml.tera", "cloud-init.yaml.tera");
    checkout.write(&format!("{}\n{declared}", declaration("30d")));
    checkout.run(&["validate", "backup"], 0);
    // It logs somebody in: without [vm.web.ssh] nobody could.
    let (without, _) = declared.split_once("[vm.web.ssh]").unwrap();
    checkout.write(&format!("{}\n{without}", declaration("30d")));
    let told = checkout.run(&["validate", "backup", "--format", "github"], 12);
    assert!(told.contains("cloud-init.yaml.tera") && told.contains("ssh"), "{told}");
}

#[test]
fn a_template_that_would_hold_the_host_up_is_told_as_any_other_fault() {
    let text = "{% for a in range(end=100000) %}{% for b in range(end=100000) %}0123456789abcdef{% endfor %}{% endfor %}";
    let told = with_template(text).run(&["validate", "backup", "--format", "github"], 12);
    assert!(told.contains("file=backup/fleet.toml,line="), "{told}");
    assert!(told.contains("web.yaml.tera") && told.contains("16 MiB"), "{told}");
}
