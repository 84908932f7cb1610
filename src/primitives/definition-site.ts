const stacks = new WeakMap<object, string>()

/** Remembers the stack of the call that defines something, for errors that are found later. */
export function rememberSite(defined: object): void {
  stacks.set(defined, `${new Error().stack}`)
}

/** Gives an error the stack of the call that made the definition: its own stack does not lead to the app's file. */
export function atDefinition(error: TypeError, defined: object): TypeError {
  const frames = stacks.get(defined)?.split('\n').slice(1)
  if (frames) error.stack = [`${error.name}: ${error.message}`, ...frames].join('\n')
  return error
}
