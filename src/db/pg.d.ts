// What pg ships beside its types.
declare module 'pg/lib/utils.js' {
  const utils: {
    /** What is sent for a value. @throws Error for one that cannot be sent */
    prepareValue(value: unknown): string | Buffer | null
  }
  export default utils
}
