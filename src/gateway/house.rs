//! The gateway in force, which a reload replaces while requests keep the one they began with.

use std::sync::{Arc, PoisonError, RwLock};

use super::Gateway;

/// A cheap handle to the gateway in force.
#[derive(Clone)]
pub struct House(Arc<RwLock<Arc<Gateway>>>);

impl From<Arc<Gateway>> for House {
    fn from(gateway: Arc<Gateway>) -> Self {
        Self(Arc::new(RwLock::new(gateway)))
    }
}

impl House {
    /// The gateway at this moment. A request takes it once and keeps it to its end.
    pub fn gateway(&self) -> Arc<Gateway> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another in its place.
    pub fn replace(&self, gateway: Arc<Gateway>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = gateway;
    }
}
