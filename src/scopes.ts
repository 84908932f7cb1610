/** The permissions of a caller. */
export const scopes = ['submit', 'read', 'cancel', 'operate', 'admin'] as const

export type Scope = (typeof scopes)[number]

/** The scopes of a caller for whom `authenticate` returns none, and of a key that is created without scopes. */
export const defaultScopes: readonly Scope[] = ['submit', 'read', 'cancel']

/** What a route does, with the scopes that permit it. A caller needs one of them. */
const permittingScopes = {
  submit: ['submit', 'admin'],
  read: ['read', 'operate', 'admin'],
  cancel: ['cancel', 'operate', 'admin'],
  retry: ['submit', 'operate', 'admin'],
  administer: ['admin'],
} as const satisfies Record<string, readonly Scope[]>

export type Action = keyof typeof permittingScopes

/** Returns the scopes that permit an action, the narrowest first. */
export const scopesFor = (action: Action): readonly Scope[] => permittingScopes[action]

/** Returns whether a caller with the given scopes may do something. Unknown scopes have no effect. */
export const permits = (given: readonly string[], action: Action): boolean =>
  permittingScopes[action].some((scope) => given.includes(scope))

/** Returns whether a caller with the given scopes may act on the jobs of all principals. */
export const isOperator = (given: readonly string[]): boolean => given.includes('operate') || given.includes('admin')

export const isScope = (text: string): text is Scope => (scopes as readonly string[]).includes(text)
