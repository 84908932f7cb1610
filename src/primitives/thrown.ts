/** How many causes of an error are read. A cause may lead back to the error itself. */
const maxCauses = 10

/** Returns an error and its causes, the error first. Returns nothing for a value that is not an error. */
export function withCauses(thrown: unknown): Error[] {
  const errors: Error[] = []
  for (let current = thrown; current instanceof Error && errors.length <= maxCauses; current = current.cause) {
    errors.push(current)
  }
  return errors
}

/** The properties that this package reads of what an app has thrown. */
const readProperties = [
  'name',
  'message',
  'stack',
  'code',
  'statusCode',
  'expose',
  'validation',
  'routine',
  'constraint',
]

/**
 * Returns what code of the app has thrown or, if it cannot be read, an error that says so. Some values throw when they
 * are read, for example a revoked proxy or an error with a getter. Such a value must not break the handling of errors.
 */
export function readable(thrown: unknown): unknown {
  try {
    for (const value of [thrown, ...withCauses(thrown)]) {
      for (const name of readProperties) Reflect.get(Object(value), name)
    }
    return thrown
  } catch {
    return new Error('A value that cannot be read was thrown')
  }
}
