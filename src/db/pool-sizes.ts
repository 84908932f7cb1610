/** Connections in the pool of an API process, unless POOL_SIZE or `database.poolSize` says otherwise. */
export const apiPoolSize = 10
/** Connections in the pool of a worker process, unless POOL_SIZE or `database.poolSize` says otherwise. */
export const workerPoolSize = 20
/** One more connection of a worker for heartbeats, and one for polls and rescues. They must not wait for handlers. */
export const controlPoolSize = 2
/** Every process has one more connection that listens. */
export const listenerConnections = 1
