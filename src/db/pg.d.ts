// The types of pg leave out this module.
declare module 'pg/lib/utils.js' {
  const utils: {
    /** Encodes a value for sending. @throws Error when the value cannot be encoded */
    prepareValue(value: unknown): string | Buffer | null
  }
  export default utils
}

// The types of pg-types leave out this module.
declare module 'pg-types/lib/textParsers.js' {
  const textParsers: {
    /** Passes the default parser of each type to `register`. */
    init(register: (oid: number, parse: (value: string) => unknown) => void): void
  }
  export default textParsers
}
