declare const captcha: {
  solve(options: { for: string }): Promise<{ ticket: string; randstr: string }>;
};
export default captcha;
