/**
 * Marks the instances of a class, and lets `instanceof` recognise them by the mark. The mark is a symbol of the global
 * registry, so `instanceof` also recognises what another copy of this package has made, for example a copy in a bundle
 * or in another package of a monorepo.
 *
 * @param name the same in all copies
 * @param isValid checks the properties, because any code can set the mark
 */
export function brand<T extends object>(
  type: { prototype: T },
  name: string,
  isValid: (value: { readonly [Key in keyof T]?: unknown }) => boolean,
): void {
  const mark = Symbol.for(name)
  Object.defineProperty(type.prototype, mark, { value: true })
  Object.defineProperty(type, Symbol.hasInstance, {
    value(this: object, value: unknown): boolean {
      // An app's own subclass has no mark of its own.
      if (this !== type) return Function.prototype[Symbol.hasInstance].call(this, value)
      try {
        return Object(value)[mark] === true && isValid(value as T)
      } catch {
        // The properties may be getters that throw.
        return false
      }
    },
  })
}
