//! How a declared machine that runs is logged in to.

use crate::{
    inventory::Running,
    provisioners::ProvisionError,
    secrets::Resolver,
    spec::{SecretRef, Vm},
    ssh::{Identity, Login, SshOptions},
};

/// The port of SSH where nothing tells another one.
const PORT: u16 = 22;

/// The checked settings of a login: what is declared, or else what whoever made the machine tells.
///
/// # Errors
/// Where neither tells the address or the key, or the identity can't be had.
pub async fn login(resolver: &Resolver, vm: &Vm, running: &Running) -> Result<Login, ProvisionError> {
    let name = &vm.name;
    let failed = |why: String| ProvisionError::stalled(format!("failed to log in to {name}: {why}"));
    let Some(ssh) = &vm.ssh else {
        return Err(failed(format!("nothing says how; declare [vm.{name}.ssh]")));
    };
    let told = running.address.as_ref();
    let host = ssh.host.clone().or_else(|| told.map(|address| address.host.clone()));
    let host = host.ok_or_else(|| failed(format!("its address is not known; declare vm.{name}.ssh.host")))?;
    let host_key = ssh.host_key.clone().or_else(|| running.host_key.clone()).ok_or_else(|| {
        failed(format!(
            "its key is not known; declare vm.{name}.ssh.host_key (ssh-keyscan -t ed25519 HOST shows it)"
        ))
    })?;
    let bound_to = vm.declared_name().as_str();
    resolver.permit(&ssh.identity, bound_to).map_err(|error| failed(error.to_string()))?;
    let identity = match &ssh.identity {
        SecretRef::File(path) => Identity::File(path.clone()),
        other => {
            let key = resolver.resolve(other, bound_to).await.map_err(|error| failed(error.to_string()))?;
            Identity::Key(key.expose().to_owned().into())
        }
    };
    let port = ssh.port.or_else(|| told.map(|address| address.port)).unwrap_or(PORT);
    Login::new(SshOptions { host, port, user: ssh.user.clone(), host_key, identity })
        .map_err(|why| failed(why.to_owned()))
}
